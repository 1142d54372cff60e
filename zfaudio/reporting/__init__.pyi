from .comparison_table import ComparisonTable as ComparisonTable
from .comparison_table import tabulate_comparison as tabulate_comparison
from .gather import gather_page as gather_page
from .page import Page as Page
from .page import render_page as render_page
