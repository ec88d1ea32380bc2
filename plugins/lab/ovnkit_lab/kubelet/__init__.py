"""The lab's kubelets: Node objects, pods as network namespaces with processes, calls of CNI plugins."""
