"""The golden self-check: published figures derived anew from published outputs."""
