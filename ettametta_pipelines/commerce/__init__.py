"""Commerce: the shop's products, affiliate links, which of them suits a niche, and the redirect that counts clicks."""
