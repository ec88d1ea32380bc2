"""An ovnkit plugin from outside its tree."""
