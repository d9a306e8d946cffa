"""The page at `/`: plain modules that talk to `/jobs` and `/solve` as any other client does."""
