"""Figures for cards and reports."""
