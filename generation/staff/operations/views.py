"""The pages of mission control, for staff with the permission `generation.operate`."""

from collections.abc import Callable
from functools import wraps
from typing import cast

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.decorators import permission_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import HttpResponseClientRefresh
from redis import RedisError

from accounts import audit
from accounts.models import User
from generation.broker import workers
from generation.jobs import control
from generation.jobs.control import CommandRefused
from generation.models import WorkerCommand
from generation.staff.operations import (
    charts,
    dashboard,
    metrics,
)

View = Callable[..., HttpResponse]

_NO_REDIS = "Redis cannot be reached, so nobody knows the workers; nothing was done. Try again when it is back."


def for_operators(view: View) -> View:
    """Let in who may operate; staff who may not get 403, everybody else the way to sign in."""
    permitted = permission_required("generation.operate", raise_exception=True)(view)
    guarded = admin.site.admin_view(permitted)

    @wraps(view)
    def guarding(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if "HX-Request" in request.headers and not admin.site.has_permission(request):
            # A part of a page cannot show the way to sign in.
            return HttpResponseClientRefresh()
        return guarded(request, *args, **kwargs)

    return guarding


@for_operators
@never_cache
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """The whole page; `window` is one of `figures.WINDOWS`, the day where it is none."""
    window = metrics.WINDOWS.get(request.GET.get("window", ""), metrics.WINDOWS["day"])
    found = metrics.metrics(window)
    return render(
        request,
        "admin/operations/dashboard.html",
        {
            **admin.site.each_context(request),
            "title": "Operations",
            "board": dashboard.dashboard(),
            "models": dashboard.warmable(),
            "windows": metrics.WINDOWS.values(),
            "window": window,
            "figures": found,
            "per_slot": metrics.PER_SLOT,
            "newest": metrics.NEWEST,
            "throughput": charts.throughput(found),
            "durations": charts.durations(found),
            "waiting": charts.waiting(found),
        },
    )


@for_operators
@never_cache
@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """The part of the page that changes by the second."""
    return render(request, "admin/operations/_live_status.html", {"board": dashboard.dashboard()})


@for_operators
@require_POST
def pause(request: HttpRequest, pool: str) -> HttpResponse:
    user = cast(User, request.user)
    try:
        with transaction.atomic():
            if control.pause(pool, user.get_username()):
                audit.record(user, "pool.pause", pool, {"paused": False}, {"paused": True})
    except CommandRefused:
        raise Http404 from None
    messages.success(request, f"The pool {pool} is paused: what runs goes on, nothing new starts.")
    return redirect("operations")


@for_operators
@require_POST
def resume(request: HttpRequest, pool: str) -> HttpResponse:
    with transaction.atomic():
        if control.resume(pool):
            audit.record(cast(User, request.user), "pool.resume", pool, {"paused": True}, {"paused": False})
        elif pool not in settings.POOLS:
            raise Http404
    messages.success(request, f"The pool {pool} goes on.")
    return redirect("operations")


@for_operators
@require_POST
def order(request: HttpRequest) -> HttpResponse:
    """Give an order: `action`, the `worker` to do it, and the `target` where it is about a model."""
    user, action = cast(User, request.user), request.POST.get("action", "")
    worker, target = request.POST.get("worker", "")[:100], request.POST.get("target", "")[:200]
    if action not in WorkerCommand.Action.values:
        raise Http404
    try:
        with transaction.atomic():
            given = control.send(worker, WorkerCommand.Action(action), target, user.get_username())
            audit.record(
                user, f"worker.{action.replace(' ', '_')}", worker, None, {"order": given.pk, "target": target}
            )
    except CommandRefused as refused:
        messages.error(request, str(refused))
    except RedisError:
        messages.error(request, _NO_REDIS)
    else:
        messages.success(request, f"Told {worker} to {given}. It does that when it has made what it makes now.")
    return redirect("operations")


@for_operators
@require_POST
def forget(request: HttpRequest) -> HttpResponse:
    """Take down the card of a silent worker; one that lives shows it again."""
    worker = request.POST.get("worker", "")[:100]
    try:
        is_there = any(card.name == worker for card in workers.registered())
        workers.remove(worker)
    except RedisError:
        messages.error(request, _NO_REDIS)
        return redirect("operations")
    if not is_there:
        messages.info(request, f"There is no card of {worker} any more.")
    else:
        audit.record(cast(User, request.user), "worker.forget", worker, None, None)
        messages.success(request, f"The card of {worker} was taken down.")
    return redirect("operations")
