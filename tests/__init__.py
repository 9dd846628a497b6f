"""The rules of signcache in English, each with the code that holds it."""
