"""Content types by file name: a table of our own, so that every machine answers the same. Asked by optimise."""

from __future__ import annotations

from typing import Final

DEFAULT: Final = "application/octet-stream"
UTF8: Final = "; charset=utf-8"

# Registered types (IANA) where there is one; text in UTF-8 says so. Extensions are in lower case.
_TYPES: Final[dict[str, str]] = {
    # Pages, styles, scripts and data
    "text/html; charset=utf-8": "html htm shtml",
    "application/xhtml+xml; charset=utf-8": "xhtml xht",
    "text/css; charset=utf-8": "css",
    "text/javascript; charset=utf-8": "js mjs cjs",  # RFC 9239
    "application/json; charset=utf-8": "json map topojson webapp",
    "application/ld+json; charset=utf-8": "jsonld",
    "application/geo+json; charset=utf-8": "geojson",
    "application/feed+json; charset=utf-8": "feedjson",
    "application/json5; charset=utf-8": "json5",
    "application/x-ndjson; charset=utf-8": "ndjson jsonl",
    "application/manifest+json; charset=utf-8": "webmanifest",
    "application/wasm": "wasm",
    "application/xml; charset=utf-8": "xml xsd xsl xslt rng",
    "application/rss+xml; charset=utf-8": "rss",
    "application/atom+xml; charset=utf-8": "atom",
    "application/opensearchdescription+xml; charset=utf-8": "osdx",
    "application/toml; charset=utf-8": "toml",
    "application/yaml; charset=utf-8": "yaml yml",  # RFC 9512
    "application/sql; charset=utf-8": "sql",
    "application/graphql; charset=utf-8": "graphql gql",
    # Text
    "text/plain; charset=utf-8": "txt text log ini conf cfg def list in py rb go rs c h cc cpp hpp java kt sh bash"
    " tsx jsx vue svelte astro scss sass less lock asc sha256 sig properties",
    "text/markdown; charset=utf-8": "md markdown mdx",  # RFC 7763
    "text/csv; charset=utf-8": "csv",
    "text/tab-separated-values; charset=utf-8": "tsv",
    "text/calendar; charset=utf-8": "ics ifb",
    "text/vcard; charset=utf-8": "vcf vcard",
    "text/vtt; charset=utf-8": "vtt",
    "text/rtf": "rtf",
    "application/x-subrip; charset=utf-8": "srt",
    # Images
    "image/svg+xml; charset=utf-8": "svg",
    "image/png": "png",
    "image/apng": "apng",
    "image/jpeg": "jpg jpeg jpe jfif pjpeg pjp",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif avifs",
    "image/jxl": "jxl",
    "image/heic": "heic",
    "image/heif": "heif",
    "image/bmp": "bmp dib",
    "image/tiff": "tif tiff",
    "image/vnd.microsoft.icon": "ico cur",
    "image/jp2": "jp2",
    "image/vnd.adobe.photoshop": "psd",
    # Sound and moving pictures
    "audio/mpeg": "mp3 mpga",
    "audio/mp4": "m4a",
    "audio/aac": "aac",
    "audio/ogg": "oga ogg opus",
    "audio/wav": "wav",
    "audio/flac": "flac",
    "audio/midi": "mid midi",
    "audio/webm": "weba",
    "video/mp4": "mp4 m4v",
    "video/mpeg": "mpeg mpg",
    "video/ogg": "ogv",
    "video/webm": "webm",
    "video/quicktime": "mov qt",
    "video/x-msvideo": "avi",
    "video/x-matroska": "mkv",
    # Segments of HTTP live streaming, not TypeScript.
    "video/mp2t": "ts m2ts",
    "video/3gpp": "3gp 3gpp",
    "application/vnd.apple.mpegurl": "m3u8 m3u",
    "application/dash+xml; charset=utf-8": "mpd",
    # Fonts
    "font/woff2": "woff2",
    "font/woff": "woff",
    "font/ttf": "ttf",
    "font/otf": "otf",
    "font/collection": "ttc",
    "application/vnd.ms-fontobject": "eot",
    # Documents
    "application/pdf": "pdf",
    "application/epub+zip": "epub",
    "application/msword": "doc dot",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "application/vnd.oasis.opendocument.presentation": "odp",
    "application/postscript": "ps eps ai",
    # Archives and programs
    "application/zip": "zip",
    "application/gzip": "gz tgz",
    "application/x-tar": "tar",
    "application/x-bzip2": "bz2",
    "application/x-xz": "xz",
    "application/zstd": "zst",
    "application/x-7z-compressed": "7z",
    "application/vnd.rar": "rar",
    "application/java-archive": "jar war ear",
    "application/vnd.android.package-archive": "apk",
    "application/x-apple-diskimage": "dmg",
    "application/vnd.debian.binary-package": "deb",
    "application/x-rpm": "rpm",
    "application/x-msdownload": "exe dll",
    "application/x-x509-ca-cert": "crt der pem",
    # Models and maps
    "model/gltf+json; charset=utf-8": "gltf",
    "model/gltf-binary": "glb",
    "model/obj": "obj",
    "model/mtl": "mtl",
    "model/stl": "stl",
    "model/vnd.usdz+zip": "usdz",
    "application/vnd.google-earth.kml+xml; charset=utf-8": "kml",
    "application/vnd.google-earth.kmz": "kmz",
    "application/gpx+xml; charset=utf-8": "gpx",
    "application/x-protobuf": "pb",
    "application/vnd.sqlite3": "sqlite sqlite3 db",
    "application/vnd.apache.parquet": "parquet",
    "application/x-apple-aspen-config": "mobileconfig",
}
TYPES: Final = {extension: type_ for type_, extensions in _TYPES.items() for extension in extensions.split()}
# Files without an extension that have a meaning by name; both of the app-association files must be JSON.
NAMES: Final = {
    "apple-app-site-association": "application/json; charset=utf-8",
    "license": "text/plain; charset=utf-8",
    "readme": "text/plain; charset=utf-8",
    "cname": "text/plain; charset=utf-8",
    "_headers": "text/plain; charset=utf-8",
    "_redirects": "text/plain; charset=utf-8",
}
# Binary, but not compressed in themselves. Images, sound, films, archives, WOFF and WOFF 2 are.
_ALSO_COMPRESSIBLE: Final = frozenset(
    {
        "application/wasm",
        "application/vnd.ms-fontobject",
        "application/x-protobuf",
        "font/ttf",
        "font/otf",
        "font/collection",
        "image/bmp",
        "image/vnd.microsoft.icon",
        "model/obj",
        "model/mtl",
        "model/stl",
        "model/gltf-binary",
        "text/rtf",
    }
)


def pick_type(path: str) -> str:
    """Return the content type of a file by its name.

    >>> pick_type("/assets/App.JS")
    'text/javascript; charset=utf-8'
    """
    name = path.rpartition("/")[2].lower()
    stem, dot, extension = name.rpartition(".")
    if not dot or not stem:
        return NAMES.get(name, DEFAULT)
    return TYPES.get(extension, DEFAULT)


def is_compressible(content_type: str) -> bool:
    """Say whether files of this type become smaller by compression."""
    return content_type.endswith(UTF8) or content_type in _ALSO_COMPRESSIBLE
