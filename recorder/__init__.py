"""The recording page: a Streamlit app (app.py, views/) over modules that know nothing of Streamlit.

Nothing here imports torch: the page starts in seconds, and what needs a model runs in a process of its own.
"""
