"""Review decisions in the admin, read-only."""

from django.contrib import admin
from django.utils import timezone

from accounts.admin_tools.read_only import ReadOnlyAdminMixin
from accounts.admin_tools.strict_lookups import StrictLookupsMixin
from generation.models.review import ReviewDecision


@admin.register(ReviewDecision)
class ReviewDecisionAdmin(StrictLookupsMixin, ReadOnlyAdminMixin, admin.ModelAdmin[ReviewDecision]):
    """The read-only list of review decisions."""

    list_display = ("time", "reviewer_name", "generation", "index", "before", "after", "reason", "score", "is_sample")
    list_display_links = ("time",)
    list_filter = ("after", "reason", "is_sample")
    list_per_page = 50
    ordering = ("-id",)
    sortable_by = ()
    show_full_result_count = False
    search_fields = ("=generation", "=reviewer_name", "=request_id")
    search_help_text = "Search by generation id, request id or reviewer."
    fields = (
        *("time", "reviewer_name", "generation", "index", "before", "after", "reason", "note", "seconds"),
        *("score", "threshold", "checker", "is_sample", "undoes", "request_id"),
    )
    readonly_fields = fields

    @admin.display(description="when")
    def time(self, decision: ReviewDecision) -> str:
        return f"{timezone.localtime(decision.when):%Y-%m-%d %H:%M:%S}"
