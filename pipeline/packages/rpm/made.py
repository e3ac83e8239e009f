"""Metadata of packages that lie somewhere without any, made as createrepo_c(8) makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pipeline.errors import BuildError
from pipeline.packages.rpm.places import Place, folder_of

#: Packages that are unpacked of an image at a time.
_AT_ONCE = 50


def metadata_of(places: Sequence[Place], folder: Path, progress: Callable[[int, int, str], None]) -> dict[str, Path]:
    """The metadata of all packages in these places, as files in `folder` by kind; of two with one path the first."""
    import createrepo_c as cr

    by_path: dict[str, Place] = {}
    for place in places:
        for path in place.packages():
            by_path.setdefault(path, place)
    files = {"primary": folder / "primary.xml", "filelists": folder / "filelists.xml"}
    writers = {
        "primary": cr.PrimaryXmlFile(str(files["primary"]), cr.NO_COMPRESSION),
        "filelists": cr.FilelistsXmlFile(str(files["filelists"]), cr.NO_COMPRESSION),
    }
    for writer in writers.values():
        writer.set_num_of_pkgs(len(by_path))
    for number, (path, file) in enumerate(_files(by_path)):
        progress(number, len(by_path), "packages")
        try:
            package = cr.package_from_rpm(str(file), location_href=path, changelog_limit=0)
        except (cr.CreaterepoCError, OSError, ValueError) as error:
            raise BuildError(
                f"{path} is no package that can be read: {error}",
                hint=f"it is damaged, or was not copied to its end (the place is from {by_path[path].origin})",
            ) from None
        package.time_file = 0  # when it was copied here
        for writer in writers.values():
            writer.add_pkg(package)
    for writer in writers.values():
        writer.close()
    return files


def _files(by_path: dict[str, Place]) -> Iterator[tuple[str, Path]]:
    """Every package as a file, for as long as it is looked at."""
    paths = list(by_path)
    for first in range(0, len(paths), _AT_ONCE):
        part = paths[first : first + _AT_ONCE]
        for place in {by_path[path] for path in part}:
            place.bring([path for path in part if by_path[path] is place])
        for path in part:
            yield path, folder_of(by_path[path].url) / path
            by_path[path].drop(path)
