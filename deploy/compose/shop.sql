-- The participants' own database, beside the saga log's: neither sees the other's tables.
CREATE DATABASE shop;
