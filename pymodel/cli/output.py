"""Lines for the user."""

from rich.console import Console


def say(console: Console, text: str) -> None:
    """Prints text as it is: no colours by guess, no markup in file names, no line breaks of our own."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
