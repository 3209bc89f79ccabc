"""The studio: the form that makes pictures. It works as a plain form; the page's script adds estimates and progress."""
