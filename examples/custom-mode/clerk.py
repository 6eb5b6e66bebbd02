#!/usr/bin/env python3
"""The agent: reads an order and says when it ships. Standard library only.

rowcall starts it for each order with ACTIVITY_DATA in its environment and takes the last line of its output as the result.
"""

import json
import os
import sys

DAYS = {"tea": 1, "book": 2, "piano": 14}


def main():
    order = json.loads(os.environ.get("ACTIVITY_DATA", "{}")).get("raw_data") or {}
    item = str(order.get("item", ""))
    if not item:
        print(json.dumps({"error": "the order names no item"}))
        sys.exit(1)
    print(json.dumps({"item": item, "ships_in_days": DAYS.get(item.lower(), 5)}))


if __name__ == "__main__":
    main()
