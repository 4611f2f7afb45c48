"""AdaptIS (Sofiiuk, Barinova, Konushin, ICCV 2019) in Apache MXNet Gluon."""

__version__ = '0.1.0'
