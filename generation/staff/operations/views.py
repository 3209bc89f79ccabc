"""The operations dashboard and its buttons, for staff with the permission `generation.operate`."""

from django.conf import settings
from django.contrib import admin, messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe
from redis import RedisError

from accounts import audit
from accounts.requests import current_user
from generation.broker import workers
from generation.jobs import control
from generation.jobs.control import CommandRefused
from generation.models import WorkerCommand
from generation.staff.operations import charts, dashboard, metrics
from generation.staff.permissions import operators_only
from generation.staff.viewing import record_page_view

_NO_REDIS = "Redis cannot be reached, so the workers are unknown and nothing was done. Try again later."


@operators_only
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """Show the whole page; `window` is one of `metrics.WINDOWS`, by default the last day."""
    window = metrics.WINDOWS.get(request.GET.get("window", ""), metrics.WINDOWS["day"])
    window_metrics = metrics.metrics(window).from_first_data()
    return render(
        request,
        "admin/operations/dashboard.html",
        {
            **admin.site.each_context(request),
            "title": "Operations",
            "dashboard": _dashboard(request),
            "models": dashboard.enabled_models(),
            "windows": metrics.WINDOWS.values(),
            "window": window,
            "metrics": window_metrics,
            "per_slot": metrics.PER_SLOT,
            "sample_size": metrics.NEWEST,
            "throughput": charts.throughput(window_metrics),
            "latency": charts.latency(window_metrics),
            "phase_charts": charts.phases(window_metrics),
            "backlog_charts": charts.waiting(window_metrics),
        },
    )


@operators_only
@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """Render the part of the page that is refreshed every few seconds."""
    return render(request, "admin/operations/_live_status.html", {"dashboard": _dashboard(request)})


def _dashboard(request: HttpRequest) -> dashboard.Dashboard:
    """Return the current state, which has the pictures that workers edit."""
    shown = dashboard.dashboard()
    runs = [run.generation for worker in shown.workers or [] for run in worker.runs]
    record_page_view(request, "operations", runs)
    return shown


@operators_only
@require_POST
def pause(request: HttpRequest, pool: str) -> HttpResponse:
    user = current_user(request)
    try:
        with transaction.atomic():
            if control.pause(pool, user.get_username()):
                audit.record(user, "pool.pause", pool, {"paused": False}, {"paused": True})
    except CommandRefused:
        raise Http404 from None
    messages.success(request, f"The pool {pool} is paused: running generations finish, nothing new starts.")
    return redirect("operations")


@operators_only
@require_POST
def resume(request: HttpRequest, pool: str) -> HttpResponse:
    with transaction.atomic():
        if control.resume(pool):
            audit.record(current_user(request), "pool.resume", pool, {"paused": True}, {"paused": False})
        elif pool not in settings.POOLS:
            raise Http404
    messages.success(request, f"The pool {pool} was resumed.")
    return redirect("operations")


@operators_only
@require_POST
def send_command(request: HttpRequest) -> HttpResponse:
    """Send a worker a command: `action`, `worker`, and `target` where it is about a model or LoRA."""
    user, action = current_user(request), request.POST.get("action", "")
    worker, target = request.POST.get("worker", "")[:100], request.POST.get("target", "")[:200]
    if action not in WorkerCommand.Action.values:
        raise Http404
    try:
        with transaction.atomic():
            command = control.send(worker, WorkerCommand.Action(action), target, user.get_username())
            after = {"command": command.pk, "target": target}
            audit.record(user, f"worker.{action.replace(' ', '_')}", worker, None, after)
    except CommandRefused as refusal:
        messages.error(request, refusal.message)
    except RedisError:
        messages.error(request, _NO_REDIS)
    else:
        messages.success(request, f"Sent “{command}” to {worker}, which runs it after its current batch.")
    return redirect("operations")


@operators_only
@require_safe
def command_state(request: HttpRequest, command_id: int) -> HttpResponse:
    """Render the state of a command, which the pages of models refresh while it is open."""
    return _command_state(request, command_id)


@operators_only
@require_POST
def cancel_download(request: HttpRequest, command_id: int) -> HttpResponse:
    """End a download; answer its state to a script, which sends HX-Request, else the operations page."""
    user = current_user(request)
    try:
        with transaction.atomic():
            command = control.cancel(command_id, user.get_username())
            audit.record(
                user, "download.cancel", command.target, None, {"command": command.pk, "worker": command.worker}
            )
    except CommandRefused as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(request, f"Canceled “{command}”. What was fetched is kept.")
    return _command_state(request, command_id) if "HX-Request" in request.headers else redirect("operations")


def _command_state(request: HttpRequest, command_id: int) -> HttpResponse:
    command = get_object_or_404(WorkerCommand, pk=command_id)
    return render(
        request, "admin/operations/_command_state.html", {"command": command, "is_refreshed": command.is_open}
    )


@operators_only
@require_POST
def remove_worker(request: HttpRequest) -> HttpResponse:
    """Remove a stale worker from the registry; a live one is back with its next heartbeat."""
    worker = request.POST.get("worker", "")[:100]
    try:
        is_registered = any(entry.name == worker for entry in workers.registered())
        workers.remove(worker)
    except RedisError:
        messages.error(request, _NO_REDIS)
        return redirect("operations")
    if not is_registered:
        messages.info(request, f"The worker {worker} is not in the list any more.")
    else:
        audit.record(current_user(request), "worker.remove", worker, None, None)
        messages.success(request, f"The worker {worker} was removed from the list.")
    return redirect("operations")
