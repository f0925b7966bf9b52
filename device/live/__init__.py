"""Pictures that arrive over time: cameras, videos, streams and watched folders."""
