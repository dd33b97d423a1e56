"""The commands of ``batchdigit``: parse, call one function of the library, print, exit."""
