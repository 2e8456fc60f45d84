"""clips."""

import streamlit as st

st.title("clips")
