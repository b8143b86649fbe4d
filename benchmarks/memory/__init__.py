"""The manager alone, on a runtime that costs next to nothing and lives in the same process."""
