"""WebShop: shopping for what an instruction asks for, in text, played natively from the benchmark's own files."""
