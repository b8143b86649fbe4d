"""stub."""
from ._options import Commands
def add_parser(commands: Commands) -> None: pass
