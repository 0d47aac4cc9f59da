"""Channel ids: who is which channel at each place, what is bound and coupled, what is kept."""
