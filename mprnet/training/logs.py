"""A run's figures in a file that spreadsheets and plots read."""

import csv
from pathlib import Path


class CsvLog:
    """One line per epoch; the file is complete after every line."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        self.path = path
        self.columns = columns
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(columns)

    def add(self, **values: object) -> None:
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([values.get(column, "") for column in self.columns])
