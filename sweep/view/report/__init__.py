"""A finished study's report: text, HTML, JSON, pictures, and the dashboard's notes."""
