"""Why a step of a build failed, for the project's owner."""

from __future__ import annotations

from vclone_core.errors.tree import StepFailed, Unavailable


class VariablesUnreadable(StepFailed):
    """The project's environment variables can't be read: {why}."""

    code = "variables_unreadable"
    hint = "Bring the key they were sealed with back (`vclone keys ls`), or set their values anew."


class CloneFailed(StepFailed):
    """The source could not be fetched: {what}."""

    code, exit_code = "clone_failed", 21
    hint = "Check the address, the branch, and that this platform may read the repository."


class SourceUnreachable(Unavailable):
    """The source could not be fetched: {what}."""

    code, exit_code = "source_unreachable", 27
    hint = "Check the address, and that this machine reaches the host."


class EmptySource(StepFailed):
    """The source has no files."""

    code, exit_code = "empty_source", 22
    hint = "Deploy a folder that holds at least one file, or push a commit with files."


class SourceRefused(StepFailed):
    """The source can't be deployed: {what}."""

    code, exit_code = "source_refused", 23
    hint = "Remove it, or list it in `.vcloneignore`."


class ArchiveRefused(StepFailed):
    """The archive can't be deployed: {what}."""

    code, exit_code = "archive_refused", 24
    hint = "Pack plain files and folders only, with relative names, within the limits of a folder's upload."


class DetectFailed(StepFailed):
    """The project's configuration can't be used: {what}."""

    code, exit_code = "detect_failed", 25
    hint = "Correct it and deploy again."


class NotServed(StepFailed):
    """{name} needs a server at run time, and only static files are served so far."""

    code, exit_code = "not_served", 26
    hint = (
        "{option}Where its build makes a folder of static files, name that as the output directory in the project"
        " settings; where the files are the site as they are, set the framework to `static`."
    )


class InstallFailed(StepFailed):
    """The install command `{command}` ended with {outcome}."""

    code, exit_code = "install_failed", 30
    hint = "Run the same command locally; the log above has its output."


class BuildFailed(StepFailed):
    """The build command `{command}` ended with {outcome}."""

    code, exit_code = "build_failed", 40
    hint = "Run the same command locally; the log above has its output."


class MissingScript(StepFailed):
    """package.json has no script "{script}"."""

    code, exit_code = "missing_script", 41
    hint = 'Add "{script}" to "scripts" in package.json, or set the build command in the project settings.'


class BuildTimeout(StepFailed):
    """The build took longer than {limit_s} seconds and was ended."""

    code, exit_code = "build_timeout", 42
    hint = "Make the build faster, or raise the project's time limit."


class OutOfMemory(StepFailed):
    """The command `{command}` ran out of memory."""

    code, exit_code = "out_of_memory", 43
    hint = "Use less memory, or raise the memory limit of builds."


class OutputMissing(StepFailed):
    """The build made no output folder `{expected}`."""

    code, exit_code = "output_missing", 45
    hint = "Set the output directory in the project settings. Folders that exist: {present}."


class OutputRefused(StepFailed):
    """The output can't be deployed: {what}."""

    code, exit_code = "output_refused", 46
    hint = "Change what the build writes into its output folder, and deploy again."


class UploadFailed(StepFailed):
    """The output could not be stored: {what}."""

    code, exit_code = "upload_failed", 60


class PublishFailed(StepFailed):
    """The deployment could not be published: {what}."""

    code, exit_code = "publish_failed", 71


class AttemptsExhausted(StepFailed):
    """The build was started {attempts} times and its worker was lost each time."""

    code, exit_code = "attempts_exhausted", 80
    hint = "The build may crash its worker: look at its log and at the memory of the machine, then redeploy."
