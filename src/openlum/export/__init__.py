"""Parts of a model for other systems, which run without torch and without openlum."""
