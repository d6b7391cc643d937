"""What the tests of the command line share."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
QUIET = ["+logger.settings.x_disable_stats=true", "+logger.settings.x_disable_machine_info=true"]
