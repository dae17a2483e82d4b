"""The engines: each brings a request to its vendor or machine and the clip back; none decides, none keeps books."""
