"""Convolutions that skip zeros on CPUs: weights as lists of what is not zero, and the C++ code that reads them."""
