"""The comparison study: what each part of our models is worth, beside peers, in equal minutes."""
