"""The acceptance on a GPU: correctness against the CPU and speed, as short checks in one command.

``tools/gpu_check.py`` runs it; METHOD.md beside this folder says what is measured how. With
``--device cpu`` the same code runs on the CPU at tiny sizes, so that a GPU's minutes are not spent
on a slip of the pen. ``checks`` lists the checks, ``runner`` runs them in a process that may die,
``goals`` reads the results; each other module holds the checks of one subject.
"""
