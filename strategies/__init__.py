"""Opinions: when to enter, where the stop goes, how it trails. Pure: no broker, clock, file or lock.

To add yours: write a module beside these, import its class here, give it a line in the dictionary.
"""

from state.strategy import Strategy
from strategies.breakout import Breakout
from strategies.eighty_twenty import EightyTwenty

STRATEGIES: dict[str, type[Strategy]] = {
    "breakout": Breakout,
    "eighty_twenty": EightyTwenty,
}
