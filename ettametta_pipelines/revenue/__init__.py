"""Revenue: the payment ledgers as booked, and marts over them."""
