from ovnkit_lab.testing import lab, lab_factory  # noqa: F401
