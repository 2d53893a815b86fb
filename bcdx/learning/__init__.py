"""Shards in, trained and tested models out. Never imports pydicom."""
