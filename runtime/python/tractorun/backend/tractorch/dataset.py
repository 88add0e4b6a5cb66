"""A table as a dataset.

Rows are read as they are asked for; nothing is kept. A table may be split among ranks (`shard_index`, `shard_count`) and
is split among the worker processes of a `DataLoader` by itself, so that no row comes twice.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Optional, Sized, Tuple, TypeVar

import torch.utils.data
import yt.wrapper as yt

from tractorun.backend.tractorch.serializer import TensorSerializer
from tractorun.private.shards import shard as _shard
from tractorun.toolbox import Toolbox

__all__ = ["YTTensorTransform", "YtDataset", "YtTensorDataset"]

T_co = TypeVar("T_co")


@dataclass(frozen=True)
class YTTensorTransform:
    """Each column holds a serialized tensor."""

    _serializer: TensorSerializer = field(default_factory=TensorSerializer)

    def __call__(self, columns: List[str], row: Dict[str, Any]) -> Tuple[Any, ...]:
        """The row's tensors, in the order of the columns."""
        return tuple(self._serializer.deserialize(yt.yson.get_bytes(row[name])) for name in columns)


class YtDataset(torch.utils.data.IterableDataset[T_co], Sized):
    """Rows `start` to `end` of a table, or one of `shard_count` parts of them, each as `transform` makes it.

    `transform` gets the names of the columns and the row. Texts that are UTF-8 are `str`; for others see
    `yt.yson.get_bytes`, which takes both.
    """

    def __init__(
        self,
        path: str,
        yt_client: yt.YtClient,
        transform: Callable[[List[str], Dict[str, Any]], T_co],
        start: int = 0,
        end: Optional[int] = None,
        columns: Optional[List[str]] = None,
        shard_index: int = 0,
        shard_count: int = 1,
    ) -> None:
        self._yt_client = yt_client
        row_count = int(yt_client.get(f"{path}/@row_count"))
        end = row_count if end is None else end
        if not 0 <= start <= end <= row_count:
            raise ValueError(f"rows {start} to {end} of `{path}`: it has {row_count} rows")
        schema = [str(column["name"]) for column in yt_client.get(f"{path}/@schema")]
        unknown = [name for name in columns or [] if name not in schema]
        # A table without a schema may have any column.
        if unknown and schema:
            raise ValueError(f"columns {unknown} of `{path}`: it has {schema}")
        self._path = path
        self._columns = schema if columns is None else list(columns)
        self._transform = transform
        self._start, self._end = _shard(start, end, shard_index, shard_count)

    def __iter__(self) -> Iterator[T_co]:
        start, end, client = self._start, self._end, self._yt_client
        loader = torch.utils.data.get_worker_info()
        if loader is not None:
            start, end = _shard(start, end, loader.id, loader.num_workers)
            # A forked process must not speak on its parent's connections.
            client = _new_client(client.config)
        table = yt.TablePath(self._path, columns=self._columns or None, start_index=start, end_index=end, client=client)
        for row in client.read_table(table):
            yield self._transform(self._columns or list(row), row)

    def __len__(self) -> int:
        return self._end - self._start

    def __getstate__(self) -> Dict[str, Any]:
        # Clients hold connections and locks; what they are made of travels.
        return {**self.__dict__, "_yt_client": copy.deepcopy(dict(self._yt_client.config))}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._yt_client = _new_client(state["_yt_client"])


class YtTensorDataset(YtDataset[Tuple[Any, ...]]):
    """A table whose columns hold tensors that `TensorSerializer` has written."""

    def __init__(
        self,
        yt_client: Optional[yt.YtClient],
        path: str,
        start: int = 0,
        toolbox: Optional[Toolbox] = None,
        end: Optional[int] = None,
        columns: Optional[List[str]] = None,
        shard_index: int = 0,
        shard_count: int = 1,
    ) -> None:
        if yt_client is None:
            if toolbox is None:
                raise ValueError("YtTensorDataset needs a yt_client")
            warnings.warn("YtTensorDataset: give yt_client rather than toolbox", stacklevel=2)
            yt_client = toolbox.yt_client
        super().__init__(
            path=path,
            yt_client=yt_client,
            transform=YTTensorTransform(),
            start=start,
            end=end,
            columns=columns,
            shard_index=shard_index,
            shard_count=shard_count,
        )


def _new_client(config: Dict[str, Any]) -> yt.YtClient:
    return yt.YtClient(config=copy.deepcopy(config))
