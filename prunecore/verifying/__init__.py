"""The proof: the written network beside the masked original."""
