"""One noun of the command line each."""
