"""Files on disk, of any kind: replaced as a whole, mapped for reading."""
