"""Reads files of rows: Parquet, CSV, JSON Lines. Knows nothing of what the rows mean."""

import codecs
import gzip
from pathlib import Path
from typing import Any

import msgspec
from pyarrow import ArrowException, csv, parquet

from router_models.example import DataError

# Answers of models are most of these files' bytes, and nothing here reads them.
ANSWERS = ("response_a", "response_b", "gpt4_response", "mixtral_response")

Row = dict[str, Any]

UNPICKLE = (
    "a pickle runs whatever its author wrote into it, so it is not read; convert it where you trust it: "
    "python -c \"import pandas; pandas.read_pickle('IN.pkl').to_csv('OUT.csv', index=False)\""
)
# A row may not be longer than a block; a long conversation in a CSV is some hundred kilobytes.
BLOCK_BYTES = 64 << 20


def read_rows(path: Path) -> list[Row]:
    """Read a .parquet, .csv or .jsonl (also .jsonl.gz) file. Raises DataError with the file and the line at fault."""
    if path.suffix in {".pkl", ".pickle"}:
        raise DataError(f"{path}: {UNPICKLE}")
    try:
        if path.suffix == ".parquet":
            names = [name for name in parquet.read_schema(path).names if not _is_answer(name)]
            rows: list[Row] = parquet.read_table(path, columns=names).to_pylist()
        elif path.suffix == ".csv":
            table = csv.read_csv(
                path,
                read_options=csv.ReadOptions(block_size=BLOCK_BYTES),
                parse_options=csv.ParseOptions(newlines_in_values=True),
            )
            rows = table.select([name for name in table.column_names if not _is_answer(name)]).to_pylist()
        else:
            rows = _read_lines(path)
    except (OSError, EOFError, ArrowException) as error:
        raise DataError(f"{path}: {error}") from error
    if not rows:
        raise DataError(f"{path}: no rows, so no examples")
    return rows


def _is_answer(name: str) -> bool:
    return name in ANSWERS or name.endswith("|model_response")


def _read_lines(path: Path) -> list[Row]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    decoder = msgspec.json.Decoder(Row)
    rows = []
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DataError(f"{path}:{number}: {error}") from error
        rows.append({**row, LINE: number})
    return rows


LINE = "\0line"
"""Under which a row of JSON Lines holds its number: no column can be called that by accident."""


def place(path: Path, number: int, row: Row) -> str:
    """Say where a row stands, for a message."""
    return f"{path}:{row[LINE]}" if LINE in row else f"{path}: row {number}"
