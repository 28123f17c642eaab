"""Outside the core, too, every message names a fix that works when it is followed literally.

The tables are in `messages/`. Fixes of messages about pictures' orientation, white and size, the
left and right of names, and the number of points are followed in `test_foreign_data`,
`test_safe_files` and `test_fixes`.
"""

import pytest
from messages import folders

IN_FOLDERS = {**folders.CASES}


@pytest.mark.parametrize("name", IN_FOLDERS)
def test_the_fix_of_a_message_about_files_works(name, tmp_path):
    case = IN_FOLDERS[name]
    with pytest.raises(case.kind, match=case.says):
        case.wrong(tmp_path)
    case.fixed(tmp_path)
