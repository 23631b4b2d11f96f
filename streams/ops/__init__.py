"""What operators and other services need: permissions, documents, manifests."""
