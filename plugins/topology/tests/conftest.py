from ovnkit_lab.testing import lab, labs  # noqa: F401
