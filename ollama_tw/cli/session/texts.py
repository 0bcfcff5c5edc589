"""Help of the interactive session. Pure."""

from typing import Final

HELP: Final = '''\
Available Commands:
  /set            Set session variables
  /show           Show model information
  /load <model>   Load a session or model
  /save <model>   Save your current session
  /clear          Clear session context
  /regenerate     Answer the last message again
  /edit           Edit the last message, and answer it again
  /copy           Copy the last answer
  /export <file>  Write the conversation as .md or .json
  /tokens         Show the tokens of the conversation
  /thinking       Show the thinking of the last answer
  /bye            Exit
  /?, /help       Help for a command
  /? shortcuts    Help for keyboard shortcuts

Use """ to begin a multi-line message.
'''
FILES: Final = "Use /path/to/file to include .jpg, .png, .webp or .wav files.\n"

SET: Final = """\
Available Commands:
  /set parameter ...     Set a parameter
  /set system <string>   Set system message
  /set history           Enable history
  /set nohistory         Disable history
  /set wordwrap          Enable wordwrap
  /set nowordwrap        Disable wordwrap
  /set format json       Enable JSON mode
  /set noformat          Disable formatting
  /set verbose           Show LLM stats
  /set quiet             Disable LLM stats
  /set markdown          Render Markdown
  /set plain             Print answers as they are
  /set fold              Fold the thinking into one line
  /set nofold            Show the thinking
  /set think [level]     Enable thinking
  /set nothink           Disable thinking

"""

SHOW: Final = """\
Available Commands:
  /show info         Show details for this model
  /show license      Show model license
  /show modelfile    Show Modelfile for this model
  /show parameters   Show parameters for this model
  /show system       Show system message
  /show template     Show prompt template

"""

SHORTCUTS: Final = """\
Available keyboard shortcuts:
  Ctrl + a            Beginning of the line (Home)
  Ctrl + e            End of the line (End)
   Alt + b            One word back
   Alt + f            One word forward
  Ctrl + k            Delete up to the end of the line
  Ctrl + u            Delete up to the beginning of the line
  Ctrl + w            Delete the word before the cursor
  Ctrl + p, Ctrl + n  Previous and next line of the history that begins as the text before the cursor
  Ctrl + r            Search the history
       Tab            Complete a command, a model name or a path
  Ctrl + j            New line
  Ctrl + g            Edit the message in an editor

  Ctrl + l            Clear the screen
  Ctrl + c            Stop the model from responding
  Ctrl + d            Exit (/bye)

"""

PARAMETERS: Final = """\
Available Parameters:
  /set parameter seed <int>                    Seed of the random numbers
  /set parameter num_predict <int>             Maximum number of tokens of an answer
  /set parameter top_k <int>                   Choose among this many tokens
  /set parameter top_p <float>                 Choose among tokens with this sum of probabilities
  /set parameter min_p <float>                 Least probability, relative to that of the best token
  /set parameter num_ctx <int>                 Context length in tokens
  /set parameter temperature <float>           Randomness of the choice
  /set parameter repeat_penalty <float>        Penalty of repeated tokens
  /set parameter repeat_last_n <int>           Number of tokens in which repetitions are looked for
  /set parameter num_gpu <int>                 Number of layers on the GPU
  /set parameter stop <string> <string> ...    Texts that end an answer

"""
