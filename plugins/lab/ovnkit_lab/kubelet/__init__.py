"""The lab's kubelets: nodes, pods as network namespaces with processes, the CNI as a runtime calls it."""
