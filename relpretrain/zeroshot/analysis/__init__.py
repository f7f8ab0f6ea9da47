"""Decision rules, statistics and result tables: functions of scores, without models or files."""
