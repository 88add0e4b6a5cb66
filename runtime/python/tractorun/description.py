"""What the cluster's web interface shows about a run."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

import yt.wrapper as yt

from tractorun.private.yt_cluster import make_cypress_link as _make_cypress_link
from tractorun.private.yt_cluster import operation_is_unknown as _operation_is_unknown

__all__ = ["Description", "DescriptionManager", "Link"]

_LOGGER = logging.getLogger(__name__)

# Texts, numbers, booleans, `None` and `Link`, in dicts and lists of any depth.
Description = Dict[str, Any]


@dataclass(frozen=True)
class Link:
    """A URL that the web interface makes a link of."""

    _value: Optional[str]

    # Spelled out: the parameter has no underscore.
    def __init__(self, value: Optional[str]) -> None:
        object.__setattr__(self, "_value", value)

    def to_yson(self) -> Any:
        """The YSON that says "this text is a URL"; nothing where there is no URL."""
        if self._value is None:
            return None
        value = yt.yson.YsonUnicode(self._value)
        value.attributes = {"_type_tag": "url"}
        return value


@dataclass
class DescriptionManager:
    """Sets one part of an operation's description and leaves the others as they are."""

    operation_id: str
    yt_client: yt.YtClient
    cypress_link_template: Optional[str]
    key: List[str] = field(default_factory=list)

    def get_child(self, key: str) -> DescriptionManager:
        """A manager for the part of that name in this one's."""
        return DescriptionManager(
            operation_id=self.operation_id,
            yt_client=self.yt_client,
            cypress_link_template=self.cypress_link_template,
            key=[*self.key, key],
        )

    def make_cypress_link(self, value: str) -> Optional[Link]:
        """A link to a Cypress path; `None` on a cluster that has not said how its links look."""
        link = _make_cypress_link(cypress_link_template=self.cypress_link_template, path=value)
        return None if link is None else Link(value=link)

    def set(self, description: Description) -> None:
        """Sets the keys of this part; keys that are not named stay."""
        parameters = {"annotations": {"description": self._make_description(self.key, description)}}
        try:
            self.yt_client.update_operation_parameters(self.operation_id, parameters=parameters)
        except yt.YtError as error:
            # `tractorun --local` runs without an operation: there is nothing that could show a description.
            if not _operation_is_unknown(error):
                raise
            _LOGGER.info("no operation %s, so nothing shows the description", self.operation_id)

    @classmethod
    def _make_description(cls, key: List[str], description: Description) -> Any:
        whole: Any = cls._convert_yson(description)
        for part in reversed(key):
            whole = {part: whole}
        return whole

    @classmethod
    def _convert_yson(cls, description: Any) -> Any:
        if isinstance(description, dict):
            return {key: cls._convert_yson(value) for key, value in description.items()}
        if isinstance(description, (list, tuple)):
            return [cls._convert_yson(value) for value in description]
        if isinstance(description, Link):
            return description.to_yson()
        return description
