"""The methods that find neurons: LAPE and those that it is compared with, one module each."""
