"""RPM packages: which there will be, where they come from, how roots are made of them."""
