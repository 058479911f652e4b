"""Files on a disk that may be full, spoilt, or shared: written whole or not at all, sealed, locked."""
