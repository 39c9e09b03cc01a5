"""The root of this package's errors: a deployment that can't be started, found or changed.

    DeployError
    +-- UserError         deploy.commands.model
    +-- MissingExtra      deploy.commands.extras
    +-- NoKey             deploy.commands.main
    +-- NoSuchKey         deploy.commands.keys
    +-- NoDeployment      deploy.local.home
    +-- AlreadyRuns       deploy.local.home
    +-- UserConfigError   deploy.local.home
    +-- DocumentError     deploy.documents
    +-- ConfigError       deploy.local.config
    +-- PortTaken         deploy.local.ports
    +-- ServerFailed      deploy.local.server
    +-- DeployFailed      deploy.local.stack
    +-- RayGone           deploy.local.stack
    +-- NoAnswer          deploy.models.fleet
    +-- ControlError      deploy.models.control
    +-- SwapRefused       deploy.models.swap
    +-- NotSwapped        deploy.models.swap
    +-- PushFailed        deploy.models.push
    +-- NoShadow          deploy.models.report

The command shows each of them in one line; the message says what is wrong and what to do.
"""


class DeployError(Exception):
    """Something that the person at the keyboard, or whoever sent it, can mend."""
