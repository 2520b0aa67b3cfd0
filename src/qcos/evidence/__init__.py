"""Evidence: the bundle of Listing 2, signed, time-stamped, recorded, and verifiable by anybody offline."""
